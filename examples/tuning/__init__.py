"""What `tune.py` searches on (`data`) and leaves behind (`results`)."""
