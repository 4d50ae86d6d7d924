"""A camera in a process of its own: a driver that hangs is killed, one that crashes takes nobody with it.

process_reader (here) -> child_process -> child (there): its source reads, each frame is copied once into
shared_frames, and channel carries a short message for each: which slot, which size, when it was taken.
"""
