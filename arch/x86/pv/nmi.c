/* NMIs for guests: each other's, the toolstack's, and what the hardware says by one. */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>
#include <pvisor/sched.h>
#include <pvisor/softirq.h>

/* A vCPU that is on its way to another CPU looks there: resume() in arch/x86/pv/switch.c. The exchange is the barrier. */
void vcpu_send_nmi(struct vcpu *v)
{
    if (!xchg(&v->arch.nmi_pending, true)) {
        vcpu_unblock(v);
        raise_softirq_on(read_once(v->cpu), SOFTIRQ_GUEST_NMI);
    }
}

/*
 * What the hardware says by NMI (memory and bus errors, a button) is for the domain that has the hardware. Port 0x61, bit 7:
 * memory parity or SERR#; bit 6: I/O channel check (Intel ICH datasheets, "NMI_SC").
 */
static void tell_of_nmi(void)
{
    u32 reason = nmi_take_reason();

    if (!reason)
        return;
    printk(LOG_WARNING "CPU%u: NMI, reason %#x%s%s\n", this_cpu_id(), reason & 0xff,
           reason & 0x80 ? ", memory or PCI system error" : "", reason & 0x40 ? ", I/O channel check" : "");
    if (dom0)
        vcpu_send_nmi(dom0->vcpu[0]);
}

void nmi_init(void) { softirq_register(SOFTIRQ_NMI, tell_of_nmi); }
