# groundserve on a CPU, with the tritonserver of the nvidia-pytriton wheel, and the gateway for any server.
# The context is the repository; docs/operate.md says how it is run.
FROM python:3.12-slim-bookworm

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_CONSTRAINT=/opt/groundserve/constraints.txt

WORKDIR /opt/groundserve
COPY constraints.txt pyproject.toml README.md LICENSE ./
# torch first, from the index of its builds for CPUs: it changes more seldom than what follows.
RUN pip install --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple torch
COPY groundserve groundserve
COPY engine_build engine_build
COPY python_backend python_backend
COPY train train
RUN pip install '.[serve,build,gateway]' \
    && rm -rf groundserve engine_build python_backend train \
    && install --directory --owner=1000 --group=1000 /engines /cache /keys /spool /spool/videos

ENV HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /
USER 1000:1000
EXPOSE 8002 8080
ENTRYPOINT ["groundserve"]
