"""The addresses of VK: methods, the long poll, uploads."""

import io
import mimetypes
import secrets
import time

import imagesize  # type: ignore[import-untyped]  # it has no annotations
from flask import Blueprint, Response, abort, jsonify, request
from sqlalchemy.orm import Session

from app.sandbox import methods
from app.sandbox.methods import ApiError, Call
from app.sandbox.state import sandbox
from app.sandbox.store import Photo, compact, upload_hash

vk = Blueprint("vk", __name__)


@vk.route("/method/<name>", methods=["GET", "POST"])
def call_method(name: str) -> Response:
    """`/method/users.get`: parameters in the address or in a form, answers and errors with status 200."""
    box = sandbox()
    if box.behaviour.latency_ms:
        time.sleep(box.behaviour.latency_ms / 1000)
    params = request.values.to_dict()
    token = params.pop("access_token", "")
    try:
        _admit(name, params, token)
        # an error leaves what was done before it, as in VK: the first 25 calls of an `execute` with 26
        with box.transaction() as session:
            call = Call(box, session, request.host_url, params)
            try:
                return jsonify(methods.answer(call, name))
            except ApiError as error:
                failure = error
    except ApiError as error:
        failure = error
    sent = {"method": name, "oauth": "1", **params}
    return jsonify(
        error={
            "error_code": failure.code,
            "error_msg": failure.message,
            "request_params": [{"key": key, "value": value} for key, value in sent.items()],
        }
    )


def _admit(name: str, params: dict[str, str], token: str) -> None:
    """Raise the error with which VK turns a request away before it looks at its parameters."""
    box = sandbox()
    if name != "execute":
        methods.named(name)
    if not params.get("v"):
        raise ApiError(8, "v (version) is required")
    if not token:
        raise ApiError(5, "no access_token passed.")
    if box.behaviour.token not in (None, token):
        raise ApiError(5, "invalid access_token (4).")
    if not box.admit(token):
        raise ApiError(6)


@vk.get("/whp/<int:group_id>")
def poll(group_id: int) -> Response:
    """The long poll, whose address `groups.getLongPollServer` gives."""
    box = sandbox()
    if group_id != box.settings.vk_group_id or request.args.get("act") != "a_check":
        abort(404)
    wait = request.args.get("wait", 25, type=int)
    return jsonify(box.longpoll.check(request.args.get("key", ""), request.args.get("ts", ""), wait))


@vk.post("/upload/photo")
def upload_photo() -> Response:
    """Takes pictures in any fields of a form, and answers without VK's usual envelope; what is no picture is left out."""
    stored = []
    with sandbox().transaction() as session:
        for file in request.files.values():
            if photo := _store(session, file.read(), file.filename or ""):
                stored.append({"photo": photo.id, "key": photo.access_key})
    described = compact(stored)
    return jsonify(server=1, photo=described, hash=upload_hash(described))


def _store(session: Session, content: bytes, filename: str) -> Photo | None:
    width, height = imagesize.get(io.BytesIO(content))
    if width <= 0:
        return None
    mimetype = mimetypes.guess_type(filename)[0] or ""
    if not mimetype.startswith("image/"):
        mimetype = "image/jpeg"
    photo = Photo(
        access_key=secrets.token_hex(9), date=int(time.time()), mimetype=mimetype, width=width, height=height, content=content
    )
    session.add(photo)
    session.flush()
    return photo


@vk.get("/photo/<int:photo_id>/<access_key>")
def show_photo(photo_id: int, access_key: str) -> Response:
    """A picture, for who has its key."""
    with Session(sandbox().engine) as session:
        photo = session.get(Photo, photo_id)
        if photo is None or not secrets.compare_digest(photo.access_key, access_key):
            abort(404)
        return Response(photo.content, mimetype=photo.mimetype, headers={"Cache-Control": "private, max-age=86400"})
