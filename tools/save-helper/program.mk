# A program of dom0's of SOURCES, paths from TOP, linked with LIBRARIES. Sources that two programs have are compiled for each.
OBJECTS := $(patsubst %.c,$(OUT)/host/$(notdir $(PROGRAM))/%.o,$(SOURCES))
CFLAGS_HELPER = -std=gnu11 -O2 -g -fno-strict-aliasing -Wall -Wextra -Werror -I$(TOP)/include $(CFLAGS)

$(PROGRAM): $(OBJECTS)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBRARIES)

# Of libxen-dev.
HEADER := /usr/include/xencall.h
$(HEADER):
	@echo "not there: $@"; echo "tools/setup build installs what a build needs"; exit 1

$(OUT)/host/$(notdir $(PROGRAM))/%.o: $(TOP)/%.c Makefile $(TOP)/tools/save-helper/program.mk $(HEADER)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS_HELPER) -MMD -MP -c -o $@ $<

clean:
	rm -rf $(OUT)/host/$(notdir $(PROGRAM)) $(PROGRAM)

.PHONY: clean
-include $(OBJECTS:.o=.d)
