# The worker, and every other `streamrec` command.

FROM python:3.12.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/streamrec
WORKDIR /src
COPY requirements/worker.txt requirements/
# The dependencies by themselves, so that a change of the code does not install them again; each with its hash.
RUN /opt/streamrec/bin/pip install --require-hashes --only-binary=:all: -r requirements/worker.txt
COPY LICENSE README.md pyproject.toml ./
COPY stream ./stream
COPY triton/model_factory ./triton/model_factory
RUN /opt/streamrec/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12.12-slim-bookworm
# The number is that of Triton's user: both write to the volume of models.
RUN useradd --uid 1000 --create-home streamrec \
    && install --directory --owner=1000 --group=1000 /models /trainer
COPY --from=build /opt/streamrec /opt/streamrec
ENV PATH=/opt/streamrec/bin:$PATH PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/streamrec
EXPOSE 9464
EXPOSE 9474
ENTRYPOINT ["streamrec"]
CMD ["worker"]
