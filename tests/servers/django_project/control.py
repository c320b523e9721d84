"""For the tests: what arrived, and how to take back what was handed out."""

from threading import Lock

from django.contrib.auth.models import User
from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken
from rest_framework.authtoken.models import Token

_lock = Lock()
_arrived = []


def recorded(get_response):
    """Middleware that keeps every request outside `/control/`, with its answer's status."""

    def middleware(request):
        if request.path.startswith("/control/"):
            return get_response(request)
        body = request.body  # before a view takes it as a stream
        response = get_response(request)
        entry = {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "authorization": request.headers.get("Authorization"),
            "form": request.POST.dict() if body else {},
        }
        with _lock:
            _arrived.append(entry)
        return response

    return middleware


def arrived(request):
    with _lock:
        return JsonResponse(_arrived, safe=False)


def start_anew(request):
    """Forget what arrived, and every OAuth token."""
    RefreshToken.objects.all().delete()
    AccessToken.objects.all().delete()
    with _lock:
        _arrived.clear()
    return HttpResponse(status=204)


def revoke(request):
    """Make every access token useless; refresh tokens stay good, as they would not if these were deleted."""
    AccessToken.objects.update(expires=timezone.now())
    return HttpResponse(status=204)


def refresh_tokens(request):
    """Tell each refresh token's family, and whether it is still good."""
    rows = RefreshToken.objects.order_by("created").values_list("token_family", "revoked")
    return JsonResponse(
        [{"family": str(family), "good": not revoked} for family, revoked in rows], safe=False
    )


def new_key(request, username):
    """Put a new REST framework token in the place of the user's old one; answer with it."""
    user = User.objects.get(username=username)
    Token.objects.filter(user=user).delete()
    return HttpResponse(Token.objects.create(user=user).key)
