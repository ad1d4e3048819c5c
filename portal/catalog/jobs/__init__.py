"""Jobs as the database keeps them: the queue, who may run what until when, and everything an attempt tells."""
