# Built from scratch around a static binary; nothing is pulled. The build context holds `tandem`, `ca-certificates.crt`, `passwd`, `group`
# and `haproxy.cfg`; `.ci/docker` makes it, builds and tries the image.
FROM scratch
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
