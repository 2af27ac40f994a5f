"""Accepting workouts: JSON -> Event -> outbox -> 202."""
