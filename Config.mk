# Choices of a build. Override on the command line (make BUILD=debug) or here.

# release: optimised. debug: the same with assertions, lock-order checks and the debug name in the banner.
# long: as release, but that no short way is taken (docs/short-ways.md), for tests. closed: debug and long, and guests' memory is mapped
# only while the hypervisor copies from it or to it (asm/closed.h), for tests.
BUILD ?= release

# Version that tools see (XENVER_version): the Xen ABI we speak, not our own number.
XEN_MAJOR   := 4
XEN_MINOR   := 17
EXTRA       := -pvisor
PVISOR_VERSION := 0.1

CC      := gcc
LD      := ld
NASM    := nasm
OBJCOPY := objcopy
NM      := nm
