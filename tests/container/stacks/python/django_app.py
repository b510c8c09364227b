"""Django in one file, for gunicorn: a template, and a database in memory that is filled while it starts."""

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="no secret", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:numbers?mode=memory&cache=shared"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}])
django.setup()

from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import JsonResponse
from django.template import engines
from django.urls import path

from state import State

state = State()
# The database lives as long as a connection to it, and requests close theirs.
keep = connection.get_new_connection(connection.get_connection_params())
with connection.cursor() as cursor:
    cursor.execute("create table numbers (value integer)")
    cursor.executemany("insert into numbers values (%s)", [(i,) for i in range(1, 10)])


def index(_):
    with connection.cursor() as cursor:
        cursor.execute("select sum(value) from numbers")
        total = cursor.fetchone()[0]
    text = engines["django"].from_string("{{ total|add:-3 }}").render({"total": total})
    return JsonResponse(state.answer(int(text)))


urlpatterns = [path("", index)]
application = WSGIHandler()
