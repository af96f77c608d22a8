"""Models that come over MQTT: what is announced, who takes it, how it is fetched, tried and reported."""
