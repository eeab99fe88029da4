# Licensed under the Apache License, Version 2.0; see LICENSE.
"""The pages of the sample project and the admin."""
from django.contrib import admin
from django.urls import path

from sample import views

urlpatterns = [
    path("", views.home, name="home"),
    path("echo/", views.echo, name="echo"),
    path("go/", views.go, name="go"),
    path("named/<str:x>/", views.named, name="named"),
    path("admin/", admin.site.urls),
]
