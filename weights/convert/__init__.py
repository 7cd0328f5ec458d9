"""From the tensor layouts of other projects to ours and back: by layout, not by file."""
