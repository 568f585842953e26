# The image of profile vllm: that of gpu (deploy/Dockerfile), with vLLM in an environment of its own, whose
# pins are not ours. The context is this folder:
#   docker build --file deploy/vllm.Dockerfile --tag groundserve-vllm:0.1.0 deploy
FROM groundserve:0.1.0
USER root
WORKDIR /opt/groundserve
COPY vllm.lock ./
RUN /usr/bin/python3 -m virtualenv vllm \
    && vllm/bin/python -m pip install --no-deps --require-hashes --requirement vllm.lock \
    && vllm/bin/python -m pip install --no-deps groundserve-*.whl
ENV GROUNDSERVE_VLLM_PYTHON=/opt/groundserve/vllm/bin/python
WORKDIR /
USER 1000:1000
