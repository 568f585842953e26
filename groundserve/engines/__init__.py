"""Engine directories: profiles, manifest, who uses one."""
