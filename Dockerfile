# syntax=docker/dockerfile:1
# CPU: docker build --tag vistune .
# GPU: docker build --tag vistune:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
FROM python:3.11-slim-bookworm

# PyPI's torch has CUDA and 3 GB of libraries for it; this index has the small one.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /opt/vistune
COPY constraints.txt ./
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
    --constraint constraints.txt torch

COPY pyproject.toml README.md LICENSE ./
COPY recipes recipes
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt ".[data,gguf,serve]" \
    && useradd --create-home --uid 1000 vistune

USER 1000
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["vistune"]
CMD ["serve", "/model", "--host", "0.0.0.0", "--api-key-env", "VISTUNE_KEY"]
