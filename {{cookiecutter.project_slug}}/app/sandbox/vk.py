"""The addresses of VK: methods, the long poll, uploads, files."""

import io
import secrets
import time
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, abort, jsonify, request, send_file
from sqlalchemy.orm import Session

from app.sandbox import methods
from app.sandbox.faults import LONGPOLL, OF_A_REQUEST, UPLOAD
from app.sandbox.methods import ApiError, Call
from app.sandbox.state import sandbox
from app.sandbox.store import File, add_file, compact, upload_hash

vk = Blueprint("vk", __name__)

HANG = 60.0  # seconds, if the fault does not say
GATEWAY = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
MORE = {  # what else stands in some errors
    14: {"captcha_sid": "239633676097", "captcha_img": "https://api.vk.ru/captcha.php?sid=239633676097"},
    17: {"redirect_uri": "https://oauth.vk.ru/security_check"},
}


@vk.route("/method/<name>", methods=["GET", "POST"])
def call_method(name: str) -> Response:
    """`/method/users.get`: parameters in the address or in a form, answers and errors with status 200."""
    return _suffering(name, lambda: _called(name))


@vk.get("/whp/<int:group_id>")
def poll(group_id: int) -> Response:
    """The long poll, whose address `groups.getLongPollServer` gives."""
    box = sandbox()
    if group_id != box.settings.vk_group_id or request.args.get("act") != "a_check":
        abort(404)
    key, ts, wait = request.args.get("key", ""), request.args.get("ts", ""), request.args.get("wait", 25, type=int)
    return _suffering(LONGPOLL, lambda: jsonify(box.longpoll.check(key, ts, wait, box.behaviour.longpoll_version)))


@vk.post("/upload/<any(photo, doc):kind>")
def upload(kind: str) -> Response:
    """Takes pictures in any fields of a form, or a document in `file`, and answers without VK's usual envelope."""
    return _suffering(UPLOAD, _uploaded_photos if kind == "photo" else _uploaded_doc)


@vk.get("/<any(photo, doc):kind>/<int:file_id>/<access_key>")
def show_file(kind: str, file_id: int, access_key: str) -> Response:
    """A file, for who has its key. A document is not opened where the sandbox's page is."""
    with Session(sandbox().engine) as session:
        file = session.get(File, file_id)
        if file is None or file.kind != kind or not secrets.compare_digest(file.access_key, access_key):
            abort(404)
        content, is_doc = io.BytesIO(file.content), kind == "doc"
        return send_file(content, file.mimetype, as_attachment=is_doc, download_name=file.name or kind, max_age=86400)


def _suffering(name: str, work: Callable[[], Response]) -> Response:
    """The answer of `work`, or what a fault makes of it."""
    faults = sandbox().faults
    fault = faults.take(*OF_A_REQUEST, method=name)
    if fault is None:
        return work()
    request.get_data(parse_form_data=True)  # a server does not end a connection whose request it has not read
    match fault.fault:
        case "http":
            return Response(GATEWAY, fault.code or 502)
        case "html":
            return Response(GATEWAY)
        case "hang":
            faults.hold(HANG if fault.seconds is None else fault.seconds)
        case "lost":
            work()
            faults.hold(fault.seconds or 0)
    # a body that is shorter than announced: the server can only end the connection
    return Response(_nothing(), headers={"Content-Length": "100"}, mimetype="application/json")


def _nothing() -> Iterator[bytes]:
    yield b"{"


def _called(name: str) -> Response:
    box, came_at = sandbox(), time.monotonic()
    params = request.values.to_dict()
    token = params.pop("access_token", "")
    try:
        # requests are counted when they come, and not when their answers are under way
        try:
            _admit(name, params, token, came_at)
        finally:
            time.sleep(box.behaviour.latency_ms / 1000)
        # an error leaves what was done before it, as in VK: the first 25 calls of an `execute` with 26
        with box.transaction() as session:
            try:
                return jsonify(methods.answer(Call(box, session, request.host_url, name, params)))
            except ApiError as error:
                failure = error
    except ApiError as error:
        failure = error
    sent = {"method": name, "oauth": "1", **params}
    return jsonify(
        error={
            "error_code": failure.code,
            "error_msg": failure.message,
            **MORE.get(failure.code, {}),
            "request_params": [{"key": key, "value": value} for key, value in sent.items()],
        }
    )


def _admit(name: str, params: dict[str, str], token: str, came_at: float) -> None:
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
    methods.permit(box, name)
    if not box.admit(token, came_at):
        raise ApiError(6)
    methods.suffer(box, name)


def _uploaded_photos() -> Response:
    """What is no picture is left out."""
    with sandbox().transaction() as session:
        photos = [add_file(session, "photo", file.filename or "", file.read()) for file in request.files.values()]
        described = compact([{"photo": photo.id, "key": photo.access_key} for photo in photos if photo])
    return jsonify(server=1, photo=described, hash=upload_hash(described))


def _uploaded_doc() -> Response:
    file = request.files.get("file")
    if file is None:
        return jsonify(error="file is undefined")
    with sandbox().transaction() as session:
        stored = add_file(session, "doc", file.filename or "file", file.read())
        number = str(stored.id if stored else "")
    return jsonify(file=f"{number}|{upload_hash(number)}")
