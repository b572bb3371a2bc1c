"""A Django site in one file, as WSGI and as ASGI application."""

from __future__ import annotations

import voices
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import re_path

from alarm_mw import asgi, wsgi

# Django would put its own handlers beside ours, for its own loggers alone.
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="none", USE_TZ=True)
voices.configure()


def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse(voices.answer(request.path))


urlpatterns = [re_path("", answer)]
wsgi_app = wsgi.AlarmMiddleware(get_wsgi_application(), voices.RULES)
asgi_app = asgi.AlarmMiddleware(get_asgi_application(), voices.RULES)
