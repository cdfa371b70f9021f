"""What the `rpn-jax` command does, one module for each of its subcommands."""
