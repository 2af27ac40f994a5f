"""What happened and how it travels: facts, their envelope, the log, the bus and the relay."""
