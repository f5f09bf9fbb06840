# pvisor: make | make deb | make install | make uninstall | make run | make check | make test | make verify | make bench | make clean.
# Choices live in Config.mk.
include Config.mk

# OUT: where everything that is built goes.
OUT ?= build
B := $(OUT)/$(BUILD)
PVISOR := $(OUT)/xen.gz

# What the environment says of flags is for programs of the host (tools/inspect, tools/save-helper, tools/template); other makes below this
# one get none.
HOST_CFLAGS := $(CPPFLAGS) $(CFLAGS)
unexport CFLAGS

.PHONY: all clean
all: $(PVISOR) loader inspect save-helper template

CFLAGS := -std=gnu11 -ffreestanding -fno-strict-aliasing -mno-red-zone -mgeneral-regs-only \
	-fpie -fvisibility=hidden -fno-stack-protector -mindirect-branch=thunk-extern -mindirect-branch-register \
	-fno-asynchronous-unwind-tables -fcf-protection=none \
	-fno-omit-frame-pointer -momit-leaf-frame-pointer -O2 -g -Wall -Wextra -Werror -Iinclude -I$(B)/gen -include include/pvisor/hidden.h \
	-ffile-prefix-map=$(CURDIR)=. -ffunction-sections \
	-DXEN_MAJOR=$(XEN_MAJOR) -DXEN_MINOR=$(XEN_MINOR) -DXEN_EXTRA='"$(EXTRA)"' \
	-DPVISOR_VERSION='"$(PVISOR_VERSION)"' -DBUILD_KIND='"$(BUILD)"'
ifeq ($(BUILD),debug)
CFLAGS += -DDEBUG
NASMFLAGS += -DDEBUG
endif
ifeq ($(BUILD),long)
CFLAGS += -DSHORT_WAYS=0
NASMFLAGS += -DLONG_WAYS
endif
ifeq ($(BUILD),closed)
CFLAGS += -DDEBUG -DSHORT_WAYS=0 -DCLOSED_ROOTS=1
NASMFLAGS += -DDEBUG -DLONG_WAYS
endif
# No debug lines for assembly: NASM writes the absolute path of the tree into them.
NASMFLAGS += -f elf64 -I$(B)/gen/ -Iarch/x86/entry/ -Werror

# What looks at the invariant is for debug builds.
SRC_C   := $(sort $(shell find arch common drivers -name '*.c' ! -name 'asm-offsets.c' $(if $(filter debug closed,$(BUILD)),,! -name '*invariant.c')))
SRC_ASM := $(sort $(shell find arch common drivers -name '*.asm'))
OBJ := $(SRC_C:%.c=$(B)/%.o) $(SRC_ASM:%.asm=$(B)/%.asm.o)
LIBS := $(addprefix /usr/lib/x86_64-linux-gnu/,liblzma.a libzstd.a libz.a liblz4.a)
MISSING = $(filter-out $(wildcard $(LIBS) $(FONT)),$(LIBS) $(FONT))

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS) $(CFLAGS-$<) -MMD -MP -c $< -o $@

$(B)/%.asm.o: %.asm $(B)/gen/asm-offsets.inc
	@mkdir -p $(@D)
	@echo "  NASM  $<"
	@$(NASM) $(NASMFLAGS) -MD $(@:.o=.d) -MP $< -o $@

# What the hypervisor draws on a screen of pixels.
FONT := /usr/share/consolefonts/spleen-8x16.psfu.gz
$(B)/drivers/char/font.asm.o: $(B)/gen/font.psf
$(B)/gen/font.psf: $(B)/flags
	@mkdir -p $(@D)
	@gzip -dc $(FONT) > $@

# Structure offsets for assembly, taken from the compiler.
$(B)/gen/asm-offsets.inc: arch/x86/asm-offsets.c $(B)/flags
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -MMD -MP -MT $@ -MF $(B)/gen/asm-offsets.d -S $< -o $(B)/gen/asm-offsets.s
	@sed -n 's/^.*->\([A-Za-z0-9_]*\) \$$\{0,1\}\(-\{0,1\}[0-9]*\).*$$/%define \1 \2/p' $(B)/gen/asm-offsets.s > $@

$(B)/pvisor.lds: arch/x86/pvisor.lds.S include/asm/layout.h $(B)/flags
	@mkdir -p $(@D)
	@$(CC) -E -P -x assembler-with-cpp -Iinclude $< | sed -E 's/(0x[0-9a-fA-F]+)UL/\1/g' > $@

# A change of flags rebuilds everything. Everything starts here, so here is said what a build lacks.
$(B)/flags: FORCE
	@$(if $(MISSING),echo "not there: $(MISSING)"; echo "tools/setup build installs what a build needs"; exit 1)
	@mkdir -p $(@D)
	@echo '$(CFLAGS) $(NASMFLAGS)' | cmp -s - $@ || echo '$(CFLAGS) $(NASMFLAGS)' > $@
FORCE:

LINK = $(LD) -nostdlib -static -T $(B)/pvisor.lds --gc-sections --build-id=sha1 -z noexecstack -z max-page-size=4096 --no-warn-rwx-segments \
	-o $(1) $(OBJ) $(2) --start-group $(LIBS) --end-group

# Linked twice: the second image carries the first one's symbol table, after all code, so that nothing moves.
$(B)/pvisor-syms: $(OBJ) $(B)/pvisor.lds tools/gensyms
	@echo "  LD    $@"
	@echo | $(NM) -n /dev/null 2>/dev/null | tools/gensyms > $(B)/gen/syms0.asm
	@$(NASM) -f elf64 $(B)/gen/syms0.asm -o $(B)/gen/syms0.o
	@$(call LINK,$(B)/pass1,$(B)/gen/syms0.o)
	@$(NM) -n $(B)/pass1 | tools/gensyms > $(B)/gen/syms1.asm
	@$(NASM) -f elf64 $(B)/gen/syms1.asm -o $(B)/gen/syms1.o
	@$(call LINK,$@,$(B)/gen/syms1.o)

$(B)/pvisor: $(B)/pvisor-syms
	@$(OBJCOPY) -O binary $< $@

# After a build of the other kind, what lies in $(OUT) is that one's, and newer.
$(OUT)/kind: FORCE
	@echo $(BUILD) | cmp -s - $@ || echo $(BUILD) > $@

$(PVISOR): $(B)/pvisor $(OUT)/kind
	@gzip -9nc $< > $@
	@cp $(B)/pvisor $(OUT)/xen
	@cp $(B)/pvisor-syms $(OUT)/xen-syms
	@echo "  $@: `stat -c %s $@` bytes ($(BUILD)); symbols in $(OUT)/xen-syms"

clean:
	rm -rf $(OUT)/release $(OUT)/debug $(OUT)/long $(OUT)/closed $(OUT)/kind $(OUT)/xen $(OUT)/xen.gz $(OUT)/xen-syms \
		$(OUT)/loader $(OUT)/host $(OUT)/pvisor-inspect $(OUT)/pvisor-save-helper $(OUT)/pvisor-template $(OUT)/man $(OUT)/deb $(OUT)/*.deb

-include tools/targets.mk
-include $(shell find $(B) -name '*.d' 2>/dev/null)
