/* Ending the machine's run: reset, halt, power-off. */
#ifndef PVISOR_POWER_H
#define PVISOR_POWER_H

#include <pvisor/types.h>

/* Resets the machine after delay_ms, by reboot='s method first and then by every other. noreboot does not stop it. */
void machine_restart(unsigned delay_ms) noreturn_fn;
/* UEFI firmware's own way, for reboot=efi and when ACPI's does nothing; the function returns if the machine was not reset. */
void power_reset_by_firmware(void (*reset)(void));
/* Stops all work of this machine for good, powered on. */
void machine_halt(void) noreturn_fn;
/* After a fatal error: restarts, or with noreboot (the default after a bug of ours) halts. */
void machine_crashed(void) noreturn_fn;
/*
 * Enters S5 with the sleep-type values for the PM1a and PM1b control registers that dom0 read from its
 * \_S5 object. Returns only if the machine did not switch off: -EIO, or -ENODEV without ACPI.
 */
int machine_poweroff(u16 pm1a_cnt, u16 pm1b_cnt);
/* What a domain's shutdown means when it is dom0: SHUTDOWN_* (include/public/sched.h). Logs and obeys noreboot. */
void hardware_shutdown(u8 reason) noreturn_fn;

#endif
