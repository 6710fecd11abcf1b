"""Reads the file that libhook (and HAMi's own library) shares between the processes of a container. Pure."""
