"""The whole path on two small trained models and hubs on loopback, each step proved."""
