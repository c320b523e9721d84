from django.contrib.auth.views import LoginView
from django.urls import include, path

from tests.servers.django_project import control, views

urlpatterns = [
    path("api/events/", views.Events.as_view()),
    path("api/actions/", views.Actions.as_view()),
    path("api/calendars/", views.Calendars.as_view()),
    path("api/resource/", views.Resource.as_view()),
    path("login/", LoginView.as_view(template_name="login.html"), name="login"),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("control/arrived", control.arrived),
    path("control/start-anew", control.start_anew),
    path("control/revoke", control.revoke),
    path("control/refresh-tokens", control.refresh_tokens),
    path("control/new-key/<username>", control.new_key),
]
