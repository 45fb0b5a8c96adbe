"""LightningModules: what is optimized, measured and logged. Their networks are in `nets/`."""
