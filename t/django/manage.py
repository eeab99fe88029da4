#!/usr/bin/env python3
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""The sample project's command line: migrate, createsuperuser, and so on."""
import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample.settings")
    execute_from_command_line(sys.argv)
