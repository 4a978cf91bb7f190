"""Where a call goes: models, channels, their order, failover and health."""
