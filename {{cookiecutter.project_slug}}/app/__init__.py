"""A community desk: VK messages in, answers out. Each folder here is one container; all share `storage`."""
