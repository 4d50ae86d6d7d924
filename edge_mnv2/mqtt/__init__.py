"""Results, telemetry and Home Assistant over MQTT."""
