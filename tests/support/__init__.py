"""What several test files share: oracles, data and networks of other systems."""
