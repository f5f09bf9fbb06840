# Images, `make run` and the whole-system tests. Included by the top Makefile; also usable alone:
#   make -f tools/targets.mk images
# HYPERVISOR: the file to boot; "debian" means Debian's own Xen.

HYPERVISOR ?= build/xen.gz
cache := build/cache
image_tools := tools/image
hypervisor_file = $(if $(filter debian,$(HYPERVISOR)),$(cache)/root/boot/xen-4.17-amd64.gz,$(HYPERVISOR))

ramdisk := $(image_tools)/ramdisk --set xen=4.17 --set tools=$(cache) --set kernels=$(cache)/kernel --set domu=$(cache)/domu.cpio

images: $(cache)/dom0.cpio $(cache)/dom0.ext4 $(cache)/dom0-disk.cpio

$(cache)/root.stamp: $(image_tools)/fetch $(image_tools)/packages
	@mkdir -p $(cache)
	@$(image_tools)/fetch $(cache)/root $(cache)/debs $$(cat $(image_tools)/packages)

$(cache)/kernel/vmlinuz: $(cache)/root.stamp $(image_tools)/kernel
	@echo "image: kernels"
	@$(image_tools)/kernel $(cache)/root/boot/vmlinuz-* $(@D)

# A 32-bit kernel that is not ours.
$(cache)/gnumach/gnumach-dbg: $(image_tools)/gnumach $(image_tools)/i386
	@$(image_tools)/gnumach $(@D)

# For the 32-bit loader: what unpacks.
$(cache)/i386/usr/lib/i386-linux-gnu/liblzma.a: $(image_tools)/i386
	@$(image_tools)/i386 $(cache)/i386 liblzma-dev libzstd-dev zlib1g-dev liblz4-dev

# A QEMU that emulates x2APIC.
$(cache)/qemu/run: $(image_tools)/qemu
	@$(image_tools)/qemu $(@D)

# Debian 13: its kernel and its Xen tools; the ramdisks with its kernel's modules; the ramdisk dom0 that is all Debian 13.
trixie := $(cache)/trixie
$(trixie)/root.stamp: $(image_tools)/fetch $(image_tools)/packages
	@$(image_tools)/fetch --suite trixie $(trixie)/root $(trixie)/debs \
		$$(sed 's/xen-hypervisor-4.17-amd64//; s/4\.17/4.20/' $(image_tools)/packages)
$(trixie)/kernel/vmlinuz: $(trixie)/root.stamp $(image_tools)/kernel
	@echo "image: kernels of Debian 13"
	@$(image_tools)/kernel $(trixie)/root/boot/vmlinuz-* $(@D)
$(cache)/trixie-%.cpio: $(cache)/%.cpio $(image_tools)/%.list $(image_tools)/ramdisk $(trixie)/root.stamp
	@echo "image: $@"
	@$(ramdisk) --modules $(trixie)/root $(cache)/root $(image_tools)/$*.list $@
# Linked with that release's library, which is made for a C library that the host may not have.
$(trixie)/free-pages $(trixie)/cpu-times: $(trixie)/%: $(image_tools)/%.c $(trixie)/root.stamp $(trixie)/headers.stamp
	@$(CC) -O2 -Wall -I$(trixie)/headers/usr/include -o $@ $< -L$(trixie)/root/usr/lib/x86_64-linux-gnu -l:libxenctrl.so.4.20 \
		-Wl,--unresolved-symbols=ignore-in-shared-libs
$(trixie)/dom0.cpio: $(cache)/dom0.cpio $(cache)/trixie-domu.cpio $(trixie)/kernel/vmlinuz $(trixie)/free-pages $(trixie)/cpu-times $(image_tools)/dom0.list \
		$(image_tools)/trixie.list $(image_tools)/ramdisk $(trixie)/root.stamp
	@echo "image: $@"
	@$(image_tools)/ramdisk --set xen=4.20 --set tools=$(trixie) --set kernels=$(trixie)/kernel --set domu=$(cache)/trixie-domu.cpio \
		$(trixie)/root $(image_tools)/dom0.list $(image_tools)/trixie.list $@

# The public headers of the other release that Debian has, for tests/abi.
$(trixie)/headers.stamp: $(image_tools)/fetch
	@$(image_tools)/fetch --suite trixie --alone $(trixie)/headers $(trixie)/header-debs libxen-dev

# Whole installations of Debian 12 (bookworm) and 13 (trixie).
$(cache)/debian-%/root.ext4: $(image_tools)/debian $(image_tools)/debian-settings
	@$(image_tools)/debian $* $(@D)
INSTALLED_RELEASES ?= bookworm trixie
installed-images: $(INSTALLED_RELEASES:%=$(cache)/debian-%/root.ext4)

# Minimal ones, in which packages are installed and update-grub runs.
$(cache)/chroot-%.tar: $(image_tools)/chroot $(image_tools)/chroot-settings
	@$(image_tools)/chroot $* $(@:.tar=)

# The ramdisks.
$(cache)/%.cpio: $(image_tools)/%.list $(image_tools)/ramdisk $(cache)/root.stamp
	@echo "image: $@"
	@$(ramdisk) $(cache)/root $< $@

$(cache)/mm-storm: $(image_tools)/mm-storm.c
	@$(CC) -O2 -Wall -static -pthread -o $@ $<
$(cache)/clock-watch: $(image_tools)/clock-watch.c
	@$(CC) -O2 -Wall -static -o $@ $<
$(cache)/cpu-check: $(image_tools)/cpu-check.c
	@$(CC) -O2 -Wall -Wextra -static -o $@ $< -lm
$(cache)/domu.cpio: $(image_tools)/domu-init $(cache)/mm-storm $(cache)/clock-watch
$(cache)/dom0-disk.cpio: $(image_tools)/dom0-disk-init
dom0_files := $(addprefix $(image_tools)/,dom0-init dom0-start guest-run) $(wildcard $(image_tools)/dom0-etc/*)
$(cache)/free-pages $(cache)/cpu-times: $(cache)/%: $(image_tools)/%.c
	@$(CC) -O2 -Wall -o $@ $< -lxenctrl
$(cache)/dom0.cpio: $(cache)/free-pages $(cache)/cpu-times $(cache)/cpu-check $(cache)/mm-storm $(cache)/kernel/vmlinuz $(cache)/domu.cpio $(dom0_files)

# A driver domain's: the domU's, with backends.
$(cache)/driver.cpio: $(image_tools)/driver.list $(image_tools)/driver-start $(image_tools)/dom0-start $(cache)/domu.cpio
	@echo "image: $@"
	@$(ramdisk) $(cache)/root $< $(image_tools)/domu.list $@

# With drivers of more devices, for domUs of either release that are given some.
$(cache)/devices.cpio: $(image_tools)/devices.list $(cache)/domu.cpio
	@echo "image: $@"
	@$(ramdisk) $(cache)/root $(image_tools)/domu.list $< $@
$(trixie)/devices.cpio: $(image_tools)/devices.list $(cache)/trixie-domu.cpio
	@echo "image: $@"
	@$(ramdisk) --modules $(trixie)/root $(cache)/root $(image_tools)/domu.list $< $@

# What `make bench` adds to both ramdisks, and its counter of instructions, a plugin for QEMU.
bench_tools := tools/bench
$(cache)/work $(cache)/logged: $(cache)/%: $(bench_tools)/%.c $(bench_tools)/mark.h
	@$(CC) -O2 -Wall -Wextra -static -o $@ $<
$(cache)/dirty-log: $(bench_tools)/dirty-log.c $(bench_tools)/mark.h
	@$(CC) -O2 -Wall -Wextra -o $@ $< -lxenctrl
$(cache)/count.so: $(bench_tools)/count.c $(bench_tools)/mark.h
	@$(CC) -O2 -Wall -Wextra -fPIC -fvisibility=hidden -shared -o $@ $<
build/guests/idle-pt64 build/guests/pair-pt64: build/guests/%-pt64: $(bench_tools)/%.c FORCE
	@$(MAKE) -s -C tests/guests S=$* ../../$@
$(cache)/bench-domu.cpio: $(bench_tools)/domu.list $(bench_tools)/work-domu $(cache)/work $(cache)/logged $(cache)/domu.cpio
	@echo "image: $@"
	@$(ramdisk) $(cache)/root $(image_tools)/domu.list $< $@
$(cache)/bench-dom0.cpio: $(bench_tools)/dom0.list $(bench_tools)/work-dom0 $(cache)/bench-domu.cpio $(cache)/dirty-log $(cache)/dom0.cpio \
		build/guests/idle-pt64 build/guests/pair-pt64 build/pvisor-template
	@echo "image: $@"
	@$(ramdisk) $(cache)/root $(image_tools)/dom0.list $< $@
build/pvisor-template: FORCE
	@$(MAKE) -s --no-print-directory template
bench-images: $(cache)/bench-dom0.cpio $(cache)/count.so

# The disk of `make run`: GRUB with the hypervisor and dom0's kernel, dom0's root, the guest's disk.
$(cache)/dom0.ext4: $(image_tools)/rootfs $(image_tools)/dom0-disk-start $(cache)/kernel/vmlinuz \
		$(cache)/domu.cpio $(dom0_files)
	@echo "image: $@"
	@$(image_tools)/rootfs $(cache)/root $(cache)/kernel $(cache)/domu.cpio $@

$(cache)/guest.ext4:
	@truncate -s 64M $@ && /sbin/mke2fs -q -t ext4 -L guest $@

build/disk.img: $(cache)/dom0.ext4 $(cache)/guest.ext4 $(cache)/dom0-disk.cpio $(image_tools)/grub.cfg \
		$(image_tools)/grubdisk $(hypervisor_file) FORCE
	@echo "image: $@ with $(hypervisor_file)"
	@mkdir -p build/boot/boot/grub
	@cp $(hypervisor_file) build/boot/boot/xen.gz
	@cp $(image_tools)/grub.cfg build/boot/boot/grub/grub.cfg
	@cp $(cache)/kernel/vmlinuz build/boot/boot/vmlinuz
	@cp $(cache)/dom0-disk.cpio build/boot/boot/initrd
	@$(image_tools)/grubdisk $@ build/boot $(cache)/dom0.ext4 $(cache)/guest.ext4

# What a newcomer calls first: the packages may still be missing, and with them libraries that the link line names. So these
# install them, and then make themselves again.
ifndef SETUP_DONE
run test test-system check bench:
	@tools/setup
	@$(MAKE) --no-print-directory SETUP_DONE=1 $@
verify:
	@tools/setup verify
	@$(MAKE) --no-print-directory SETUP_DONE=1 $@
else

run: build/disk.img
	@tools/run build/disk.img

# The whole-system tests; T=name runs those whose name contains it (pytest -k).
PYTEST_ARGS ?= -n 2 --dist loadscope --durations=40 --durations-min=10
# WHOLE=1: also what is marked long, which takes hours (docs/testing.md).
export HYPERVISOR
test-system: images $(hypervisor_file)
	@tests/system/collects
	@cd tests/system && /usr/bin/python3 -m pytest -v $(if $(T),-k '$(T)',$(PYTEST_ARGS) $(if $(WHOLE),,-m 'not long'))

# Every suite, or the tests whose name contains T; the last line is "N passed, N failed".
test: images $(hypervisor_file)
	@tools/test-all $(T)

# What can be said of a change without running it: form and static analysis. For each commit. BASE: the commit to compare with.
check:
	@tools/check $(BASE)

# The proofs: docs/verification.md. FAST=1: those that take a minute or two.
verify:
	@$(MAKE) -s --no-print-directory -C tests/proofs $(if $(FAST),fast,all)

# Ours beside Debian's Xen: make bench, or some by name: make bench NAMES='hypercall pin_unpin'. See docs/performance.md.
bench: $(PVISOR) bench-images
	@$(MAKE) -s -C tests/guests S="primitives cpus"
	@tools/bench/run $(NAMES)
endif

# The kernels that start other kernels in domUs: docs/boot-loader.md.
loader:
	@$(MAKE) -s --no-print-directory -C tools/loader OUT=$(abspath build/loader)

# Says what a kernel file is, and how to run it.
inspect:
	@$(MAKE) -s --no-print-directory -C tools/inspect OUT=$(abspath build) CFLAGS="$(HOST_CFLAGS)"

# Saves and restores the guests that the tools' own helper does not know: docs/migration.md.
save-helper:
	@$(MAKE) -s --no-print-directory -C tools/save-helper OUT=$(abspath build) CFLAGS="$(HOST_CFLAGS)"

# Begins domains again and again from a saved one: docs/migration.md.
template:
	@$(MAKE) -s --no-print-directory -C tools/template OUT=$(abspath build) CFLAGS="$(HOST_CFLAGS)"

# Onto a Debian machine. DESTDIR: a directory to install below, for packages. Then: update-grub.
# The hypervisor's name is one that GRUB's /etc/grub.d/20_linux_xen finds, /boot/xen-VERSION.gz; as there is no Xen 0, Debian's own
# hypervisor stays above it in the menu. What a former version left under its name goes.
installed_xen := boot/xen-$(PVISOR_VERSION)-pvisor.gz
menu_settings := etc/default/grub.d/zz-pvisor.cfg
INSTALLED := $(installed_xen) usr/lib/pvisor/pv-loader-x86_64 usr/lib/pvisor/pv-loader-i386 usr/lib/pvisor/grub-settings usr/bin/pvisor-inspect \
	usr/lib/pvisor/make-pv-grub usr/lib/pvisor/pv-grub.cfg usr/lib/pvisor/pvisor-save-helper usr/lib/pvisor/pvisor-template \
	$(menu_settings)
former = $(filter-out $(DESTDIR)/$(installed_xen),$(wildcard $(addprefix $(DESTDIR)/,boot/xen-*-pvisor.gz boot/xen-pvisor.gz etc/default/grub.d/pvisor.cfg)))

install: $(PVISOR) loader inspect save-helper template
	@install -D -m 644 $(PVISOR) $(DESTDIR)/$(installed_xen)
	@for word in x86_64 i386; do install -D -m 644 build/loader/pv-loader-$$word $(DESTDIR)/usr/lib/pvisor/pv-loader-$$word; done
	@install -D -m 755 tools/loader/grub/make-pv-grub $(DESTDIR)/usr/lib/pvisor/make-pv-grub
	@install -D -m 644 tools/loader/grub/grub.cfg $(DESTDIR)/usr/lib/pvisor/pv-grub.cfg
	@install -D -m 755 build/pvisor-inspect $(DESTDIR)/usr/bin/pvisor-inspect
	@install -D -m 755 build/pvisor-save-helper $(DESTDIR)/usr/lib/pvisor/pvisor-save-helper
	@install -D -m 755 build/pvisor-template $(DESTDIR)/usr/lib/pvisor/pvisor-template
	@install -D -m 644 tools/grub/grub-settings $(DESTDIR)/usr/lib/pvisor/grub-settings
	@[ -e $(DESTDIR)/$(menu_settings) ] || install -D -m 644 tools/grub/zz-pvisor.cfg $(DESTDIR)/$(menu_settings)
	@echo "installed:$(patsubst %, $(DESTDIR)/%,$(INSTALLED))"
	@$(if $(former),rm -f $(former); echo "removed: $(former)")
	@$(if $(DESTDIR),,echo "now run update-grub, and choose pvisor in GRUB's menu: see docs/install.md")

# The directories, too, that it made; below DESTDIR these may be all.
uninstall:
	@$(if $(DESTDIR),,! dpkg -S /$(installed_xen) >/dev/null 2>&1 || \
		{ echo "uninstall: /$(installed_xen) is a package's: apt-get remove pvisor" >&2; exit 1; })
	@rm -f $(INSTALLED:%=$(DESTDIR)/%) $(former)
	@cd $(DESTDIR)/ && for dir in $(if $(DESTDIR),boot usr/bin) etc/default/grub.d usr/lib/pvisor; do \
		[ ! -d $$dir ] || rmdir $(if $(DESTDIR),-p) --ignore-fail-on-non-empty $$dir; done
	@$(if $(DESTDIR),,echo "now run update-grub")

# The pages for man, made of docs/ and README by what docs/man has of each.
man_pages := $(addprefix $(OUT)/man/,pvisor.7 pvisor-command-line.5 pvisor-inspect.1)
man: $(man_pages)
$(OUT)/man/%: docs/man/%.md tools/man/page.lua README $(wildcard docs/*.md)
	@mkdir -p $(@D)
	@echo "  MAN   $@"
	@pandoc -f markdown-smart -t man -s -L tools/man/page.lua -M section=$(subst .,,$(suffix $*)) -M footer="pvisor $(PVISOR_VERSION)" -o $@ $<

# Debian packages, below $(OUT).
deb:
	@tools/setup deb
	@tools/deb $(OUT)

setup:
	@tools/setup

FORCE:
.PHONY: images installed-images bench-images loader inspect save-helper template man deb install uninstall run setup test test-system check bench verify FORCE
