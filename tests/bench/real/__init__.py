"""What the distributed way costs, on a RabbitMQ and a MongoDB of the benchmark's own."""
