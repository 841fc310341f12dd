"""An index in a bucket of S3 or a compatible service."""
