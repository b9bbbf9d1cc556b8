"""File formats: readers and writers of our own."""
