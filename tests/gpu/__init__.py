"""What only a GPU can show: `make test-gpu`, or `bash scripts/gpu.sh` without a network."""
