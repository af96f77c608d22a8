"""What edged shows over HTTP, for Prometheus, health checks and a browser. It changes nothing."""
