"""What any process of groundserve needs: deadlines, CPUs, threads, parents."""
