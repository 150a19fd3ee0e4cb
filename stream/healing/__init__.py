"""What makes the engine whole again where Redis forgot."""
