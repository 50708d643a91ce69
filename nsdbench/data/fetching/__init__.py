"""Where files are looked for, and how those that are missing are downloaded and unpacked."""
