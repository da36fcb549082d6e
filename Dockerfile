# Two ways to build:
#   docker build --build-arg FROM_STAGE=prebuilt -t tandem .   with a static `tandem` binary and `ca-certificates.crt` in ./docker-context
#   docker build -t tandem .                                     compiles first (pulls the Rust image)
# The stage that needs nothing pulled comes first: the legacy builder runs every stage before the one it is asked for.
FROM scratch AS prebuilt
COPY tandem /usr/local/sbin/tandem
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY passwd group /etc/
COPY haproxy.cfg /usr/local/etc/haproxy/haproxy.cfg
# Run as root with only these rights: NET_ADMIN, NET_RAW, NET_BIND_SERVICE, SETUID, SETGID, SYS_CHROOT, KILL, DAC_READ_SEARCH.
# The worker, which alone touches client bytes, gives all of them up and runs as uid 99.
ENV PATH=/usr/local/sbin
STOPSIGNAL SIGUSR1
ENTRYPOINT ["/usr/local/sbin/tandem"]
CMD ["-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
