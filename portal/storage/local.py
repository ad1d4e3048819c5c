"""Files on this machine, addressed by ``file://`` URIs."""
