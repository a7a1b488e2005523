def is_known(kind): return kind in ("function","custom","namespace")
