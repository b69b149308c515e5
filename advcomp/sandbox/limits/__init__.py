"""What a box may use and ask of the kernel: memory, processes, processors, GPUs, system calls."""
