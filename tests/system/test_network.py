"""Split network devices: ping and bulk TCP with sums, between a domU and dom0, another domU, and a host outside."""
import hashlib
import os

import pytest

import rig

MIB = 8
SEND = f"dd if=/dev/urandom of=/tmp/data bs=1M count={MIB} 2>/dev/null"


@pytest.fixture
def guest(standing):
    return standing("domu", vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21", memory=112)


@pytest.fixture
def other(standing):
    return standing("other", vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.22", memory=112)


def transfer(sender, receiver, address):
    """Move data over TCP from one place to another at ADDRESS, and compare sums."""
    # nc stops sending when its peer's input ends, so the receiver's input must not: a pipe open both ways never does.
    receiver.ok("rm -f /tmp/got /tmp/sum; [ -p /tmp/never ] || mkfifo /tmp/never; "
                "(nc -l -p 5001 <> /tmp/never > /tmp/got; md5sum < /tmp/got > /tmp/sum) > /dev/null 2>&1 &")
    sender.ok(f"{SEND}; sleep 1; nc {address} 5001 < /tmp/data", 120)
    sent = sender.ok("md5sum < /tmp/data").split()[0]
    received = receiver.ok("for i in $(seq 60); do [ -s /tmp/sum ] && break; sleep 0.5; done; cat /tmp/sum; "
                           "rm -f /tmp/sum /tmp/got").split()[0]
    assert sent == received


def test_ping_dom0(guest):
    assert " 0% packet loss" in guest.ok("ping -c 3 10.0.2.15")


def test_dom0_pings_the_domu(dom0, guest):
    assert " 0% packet loss" in dom0.ok("ping -c 3 10.0.2.21")


def test_large_packets(dom0, guest):
    assert " 0% packet loss" in dom0.ok("ping -s 20000 -c 3 10.0.2.21")


def test_ping_the_host_outside(guest):
    assert " 0% packet loss" in guest.ok("ping -c 3 10.0.2.2")


def test_tcp_to_dom0(dom0, guest):
    transfer(guest, dom0, "10.0.2.15")


def test_tcp_from_dom0(dom0, guest):
    transfer(dom0, guest, "10.0.2.21")


def test_tcp_between_domus(guest, other):
    assert " 0% packet loss" in guest.ok("ping -c 2 10.0.2.22")
    transfer(guest, other, "10.0.2.22")
    transfer(other, guest, "10.0.2.21")


def test_tcp_from_the_host_outside(guest):
    payload = os.urandom(MIB << 20)
    with rig.Outside() as outside:
        port, _ = outside.listen(lambda connection: connection.sendall(payload))
        got = guest.ok(f"nc 10.0.2.2 {port} < /dev/null | md5sum", 120).split()[0]
    assert got == hashlib.md5(payload).hexdigest()


def test_tcp_to_the_host_outside(guest):
    digest = hashlib.md5()

    def serve(connection):
        while chunk := connection.recv(65536):
            digest.update(chunk)

    with rig.Outside() as outside:
        port, thread = outside.listen(serve)
        guest.ok(f"{SEND}; nc 10.0.2.2 {port} < /tmp/data", 120)
        thread.join(60)
    assert guest.ok("md5sum < /tmp/data").split()[0] == digest.hexdigest()


def test_interface_attached_while_running(dom0, domu):
    domain = domu("later").create()
    dom0.ok("xl network-attach later bridge=xenbr0 mac=00:16:3e:00:00:99")
    domain.ok("for i in $(seq 40); do [ -e /sys/class/net/eth0 ] && break; sleep 0.5; done; "
              "ip link set eth0 up; ip address add 10.0.2.29/24 dev eth0; ping -c 2 10.0.2.15")
