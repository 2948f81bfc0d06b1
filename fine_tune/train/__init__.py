"""The methods: the table of them, and one file per method with its loop written out."""
