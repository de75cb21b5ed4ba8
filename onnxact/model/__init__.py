"""What a model is: a ModelProto, read through a view and edited in place by `edit.apply` alone."""
