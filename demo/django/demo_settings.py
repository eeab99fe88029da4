# Licensed under the Apache License, Version 2.0; see LICENSE.
"""The sample project of the tests, with a front page for people."""
from sample.settings import *  # noqa: F401,F403

ROOT_URLCONF = "demo_urls"
