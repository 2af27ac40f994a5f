"""What carries consumers: registry, worker, sweep, supervisor, rebuild, query and the stores."""
