"""Gateways without hardware: a real aarch64 Debian machine in QEMU, and a fast container with systemd."""
