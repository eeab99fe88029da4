# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# All that a soak runs: httpd with its clock, the applications, PHP-FPM, the
# disk of what is held, a crowd of clients; and the log, read as it grows.
#
#     my $server = Soak::Server->start(seed => 1, crowd => 200);
#     $server->httpd, one, two, php, patient, clock, disk
#     $server->words_about($id)   # lines of the logs
#     $server->crash              # the first line of the log that tells of one
#     $server->left               # what an idle server should not have: text
#     $server->stop               # true when httpd ended by itself
#     $server->descriptors        # the most that a child has
#     $server->crowd_begins; $server->crowd_ends   # totals of its reports
#     $server->crowd_cuts         # cut answers of the crowd so far
package Soak::Server;

use strict;
use warnings;
use Client;
use Clock;
use Crowd;
use FcgiApp;
use Httpd;
use JSON::PP qw(decode_json);
use List::Util qw(max sum);
use PhpFpm;
use Private;
use Soak::Application;
use Soak::Pages;

my $PATIENCE = 120;             # seconds
my $CRASH = qr/^.*(?:exit\ signal\ (?!Killed)|Sanitizer
                 |:\ runtime\ error:|AH00050|assert).*$/mx;
my $RESTARTED = qr/resuming normal operations/;
my @KINDS = qw(asked right refused cut wrong left late waiting);

for my $name (qw(httpd one two php patient clock disk)) {
    no strict 'refs';
    *$name = sub { $_[0]{$name} };
}

sub start {
    my ($class, %opt) = @_;
    my $self = bless { %opt, log_read => 0, restarts => 0 }, $class;
    my $once = $self->{once} = Private::temp_dir('soak-once');
    chmod 01777, $once;
    @$self{qw(one two)} = map {
        Soak::Application->start("$once", $opt{seed}, workers => 8)
    } 1, 2;
    $self->{php} = PhpFpm::program()
        ? PhpFpm->start(children => 4,
                        pool => "pm.max_requests = 500\n",
                        global => 'process_control_timeout = 10s')
        : undef;
    $self->{patient} = Crowd::Application->start;
    $self->{in_line} = Crowd::Application->start;
    $self->{clock} = Clock->new;
    $self->{spool} = Private::temp_dir('soak-spool');
    $self->mount_disk;
    chmod 01777, $self->{spool};
    $self->{httpd} = $self->start_httpd;
    return $self;
}

my @mounted;

# A small disk of its own, if the processes have mounts of their own.
sub mount_disk {
    my ($self) = @_;
    return if !$ENV{SOAK_MOUNTS};
    my ($failed) = Private::run(
        qw(mount -t tmpfs -o size=256m none), "$self->{spool}");
    $self->{disk} = $failed ? undef : "$self->{spool}";
    push @mounted, $self->{disk} // ();
    return;
}

# Before the folder is removed, whoever still has files there.
sub unmount {
    local ($?, $!);
    Private::run('umount', '--lazy', $_) for splice @mounted;
    return;
}

END { unmount() }
sub DESTROY { unmount() }

sub h2 { return Httpd::mpm() ne 'prefork' }

# Three children. MaxRequestWorkers says how many of a generation are told to
# end; there may be one more for each that is killed while httpd restarts, and
# one that is not told would serve for ever. With few threads a child may crash
# when it is told to, see docs/performance.rst.
sub mpm_lines {
    my ($self) = @_;
    return Httpd::several(16) . "ListenBacklog 4096\n"
        if Httpd::mpm() ne 'event';
    my $factor = 4 + int($self->{crowd} / 16);
    return <<"EOC";
StartServers 3
ServerLimit 12
ThreadLimit 32
ThreadsPerChild 32
MinSpareThreads 1
MaxSpareThreads 128
MaxRequestWorkers 192
AsyncRequestWorkerFactor $factor
ListenBacklog 4096
EOC
}

sub start_httpd {
    my ($self) = @_;
    my $php = $self->php ? <<'EOC' : '';
FcgiBackend php @PHP@ max=4 queue=1000 queue-timeout=100 keepalive=2 idle=1
<Files page.php>
  SetHandler fcgi:php
</Files>
EOC
    return Httpd->start(
        tls => 1, http2 => h2(), mpm => $self->mpm_lines,
        env => $self->clock->environment, log_level => 'notice',
        access_format => '%s %X %L %r',
        files => { 'static.txt' => 'static', 'page.php' => $Soak::Pages::PHP },
        vars => { ONE => $self->one->handler, TWO => $self->two->address,
                  PHP => $self->php && $self->php->address,
                  PATIENT => $self->patient->handler,
                  LINE => $self->{in_line}->address, SPOOL => $self->{spool} },
        config => $php . (defined $ENV{PARK} ? '' : "FcgiPark 20ms\n")
            . <<'EOC');
Timeout 300
GracefulShutdownTimeout 120
KeepAliveTimeout 5
FcgiBufferDir @SPOOL@
FcgiConnectTimeout 100
FcgiRetry Safe 100
FcgiBackend two @TWO@ max=6 queue=1000 queue-timeout=100 keepalive=4 idle=1
FcgiBackend line @LINE@ max=20 queue=5000 queue-timeout=100 keepalive=10 idle=1
<Location /one>
  SetHandler @ONE@
</Location>
<Location /two>
  SetHandler fcgi:two
</Location>
<Location /stream>
  SetHandler @ONE@
  FcgiRequestBuffering Off
</Location>
<Location /half>
  SetHandler @ONE@
  FcgiIgnoreClientAbort On
</Location>
<Location /impatient>
  SetHandler @ONE@
  FcgiFirstByteTimeout 1
</Location>
<Location /patient>
  SetHandler @PATIENT@
</Location>
<Location /line>
  SetHandler fcgi:line
</Location>
<Location /status>
  SetHandler fcgi-status
</Location>
EOC
}

# ---- the log ----

# Reads what is new there; it may be large.
sub read_log {
    my ($self) = @_;
    open my $file, '<:raw', $self->httpd->root . '/logs/error.log' or return;
    seek $file, $self->{log_read}, 0;
    my $text = do { local $/; <$file> } // '';
    $text =~ s/[^\n]*\z//;
    $self->{log_read} += length $text;
    $self->{restarts} += () = $text =~ /$RESTARTED/g;
    $self->{said}{$_}++ for $text =~ /\b(FCGI\d\d): /g;
    $self->{crash} //= $1 if $text =~ /($CRASH)/;
    return;
}

sub restarts { $_[0]->read_log; return $_[0]{restarts} }
sub crash    { $_[0]->read_log; return $_[0]{crash} }
sub said     { $_[0]->read_log; return $_[0]{said} || {} }

# Lines of a file, which may be large.
sub lines_with {
    my ($path, $pattern) = @_;
    open my $file, '<', $path or return;
    my @lines;
    while (my $line = readline $file) {
        push @lines, $line =~ s/\n//r if $line =~ $pattern;
    }
    return @lines;
}

# What both logs say of a request.
sub words_about {
    my ($self, $id) = @_;
    my $logs = $self->httpd->root . '/logs';
    my @access = lines_with("$logs/access.log", qr/\?id=$id&/);
    my @ids = grep { $_ ne '-' } map { (split)[2] } @access;
    return @access if !@ids;
    my $any = join '|', map { quotemeta } @ids;
    return (@access, lines_with("$logs/error.log", qr/\[(?:$any)\]/));
}

# Gracefully, with the time that a busy machine takes: on TERM children of the
# event MPM crash now and then, see Httpd.pm.
sub stop {
    my ($self) = @_;
    kill 'WINCH', $self->httpd->pid;
    my $ended = Private::wait_until($PATIENCE, sub {
        !Private::alive($self->httpd->pid);
    });
    $self->httpd->stop;
    return $ended;
}

# ---- the crowd ----

my @CROWDS = (
    ['/patient?every=300&events=5&id=', 3, 1, 0.5],
    ['/patient?after=200&half=200&lines=2000&id=', 2000, 0, 0.3],
    ['/line?after=20&lines=3&id=', 3, 0, 0.2],
);

sub crowd_begins {
    my ($self) = @_;
    $self->{crowds} = [map {
        my ($path, $lines, $is_stream, $part) = @$_;
        my $crowd = Crowd->start(
            port => $self->httpd->port, path => $path, lines => $lines,
            stream => $is_stream, again => 1, pause => 200,
            patience => $PATIENCE * 1000);
        $crowd->ask(1 + int($part * $self->{crowd}));
        $crowd;
    } @CROWDS];
    return;
}

# Three looks: each takes in all that has happened to a part of them.
sub crowd_cuts {
    my ($self) = @_;
    my $cuts;
    $cuts = sum(map { $_->report->{cut} } @{ $self->{crowds} }) for 1 .. 3;
    return $cuts;
}

sub crowd_ends {
    my ($self) = @_;
    $_->say('finish') for @{ $self->{crowds} };
    my @reports = map {
        $_->wait_for($PATIENCE, sub { !$_[0]{waiting} }) || $_->report
    } @{ $self->{crowds} };
    $_->stop for splice @{ $self->{crowds} };
    my %total = map { my $kind = $_; $kind => sum(map { $_->{$kind} }
                                                  @reports) } @KINDS;
    $total{why} = join ' ', grep { $_ } map { $_->{why} } @reports;
    return \%total;
}

# ---- what is left ----

# What is not zero on the status page.
sub counts {
    my ($self) = @_;
    my $answer = eval { Client->get($self->httpd->port, '/status?json') };
    return 'no status' if !$answer || !$answer->complete;
    my @left;
    for my $backend (@{ decode_json($answer->body)->{backends} }) {
        push @left, map { "$backend->{backend} $_ $backend->{$_}" }
            grep { $backend->{$_} }
            qw(in_use idle waiting parked pressing);
    }
    return join ', ', @left;
}

# Files of what is held: with a name, or open without one.
sub files {
    my ($self) = @_;
    return (glob("$self->{spool}/*"),
            grep { m{^\Q$self->{spool}\E/} } map { readlink // () }
            map { glob "/proc/$_/fd/*" } $self->httpd->pids);
}

sub descriptors {
    return max map { Crowd::descriptors($_) } $_[0]->httpd->pids;
}

sub parent_descriptors { return Crowd::descriptors($_[0]->httpd->pid) }

sub left {
    my ($self) = @_;
    my $counts = $self->counts;
    my @files = $self->files;
    return join ', ', $counts || (),
        @files ? 'files: ' . join(' ', @files) : ();
}

1;
