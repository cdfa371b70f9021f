"""The subcommands of `rpn-jax`, one module for each."""
