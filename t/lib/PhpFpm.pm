# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A private PHP-FPM with a pool of its own and none of the system's settings.
#
#     my $php = PhpFpm->start(children => 2);
#     ... SetHandler @{[ $php->handler ]} ...
#     $php->status->{'active processes'};      # does not take a child
#
# Options: children (2), backlog, transport ('unix' or 'tcp'; default as in
# FcgiApp.pm), ini => { name => value } for PHP, pool => further lines of the
# pool's configuration, global => of the [global] part, machine => a Machine
# on which it runs, at port 9000.
#     address, handler   as in FcgiApp.pm
#     status             FPM's status page as a hash
#     log                the error log so far
#     reload             SIGUSR2, and waits for the new processes
#     pause, resume      stops and continues all its processes
#     stop
#     kill               ends all its processes with SIGKILL
#     restart            starts it again on the same address, after either
# PhpFpm::program gives the path of php-fpm, undef when there is none.
package PhpFpm;

use strict;
use warnings;
use FcgiClient;
use JSON::PP ();
use Private;

our @ISA = qw(Private::Server);

sub program { return (sort glob '/usr/sbin/php-fpm*')[-1] }

sub start {
    my ($class, %opt) = @_;
    my $self = $class->new('php',
        transport => $ENV{TRANSPORT} || 'unix', children => 2, backlog => 128,
        ini => {}, pool => '', global => '', %opt);
    $self->{port} = Private::reserve_port()
        if $self->{transport} eq 'tcp' && !$self->{machine};
    Private::spew("$self->{dir}/fpm.conf", $self->configuration);
    $self->restart;
    return $self;
}

sub restart {
    my ($self) = @_;
    my $times = $self->starts;
    $self->{pid} = Private::spawn(
        exec => [$self->{machine} ? $self->{machine}->under : (),
                 program(), '-n', '--nodaemonize', '--fpm-config',
                 "$self->{dir}/fpm.conf"],
        log => "$self->{dir}/output");
    $self->wait_until_up($times)
        or die "php-fpm did not start\n" . $self->words;
    return;
}

sub pause  { return CORE::kill('STOP', -$_[0]{pid}) }
sub resume { return CORE::kill('CONT', -$_[0]{pid}) }

sub kill {
    my ($self) = @_;
    CORE::kill('KILL', -$self->{pid});
    Private::end(delete $self->{pid}, 'KILL');
    return;
}

sub configuration {
    my ($self) = @_;
    my $user = $> == 0 ? "user = www-data\ngroup = www-data\n" : '';
    my $ini = join '', map { "php_admin_value[$_] = $self->{ini}{$_}\n" }
        sort keys %{ $self->{ini} };
    return <<"EOC";
[global]
error_log = $self->{dir}/log
pid = $self->{dir}/pid
$self->{global}
[www]
${user}listen = @{[ $self->address ]}
listen.mode = 0666
listen.backlog = $self->{backlog}
pm = static
pm.max_children = $self->{children}
pm.status_path = /status
pm.status_listen = $self->{dir}/status.sock
catch_workers_output = no
$ini$self->{pool}
EOC
}

sub address {
    my ($self) = @_;
    return $self->{machine}->address . ':9000' if $self->{machine};
    return $self->{port} ? '127.0.0.1:' . $self->{port}->sockport
        : "$self->{dir}/php.sock";
}

sub wait_until_up {
    my ($self, $times) = @_;
    Private::wait_until(10, sub {
        !Private::alive($self->{pid}) || $self->starts > $times;
    });
    return Private::alive($self->{pid}) && $self->starts > $times;
}

sub starts {
    my ($self) = @_;
    my @starts = $self->log =~ /ready to handle connections/g;
    return scalar @starts;
}

sub log   { return Private::slurp("$_[0]{dir}/log") }
sub words { return Private::slurp("$_[0]{dir}/output") . $_[0]->log }

sub status {
    my ($self) = @_;
    my $answer = FcgiClient::request("$self->{dir}/status.sock", {
        SCRIPT_NAME => '/status', SCRIPT_FILENAME => '/status',
        QUERY_STRING => 'json' }) or return undef;
    my ($json) = $answer->{stdout} =~ /\r\n\r\n(.*)/s;
    return JSON::PP::decode_json($json);
}

sub reload {
    my ($self) = @_;
    my $times = $self->starts;
    CORE::kill('USR2', $self->{pid});
    $self->wait_until_up($times)
        or die "php-fpm did not reload\n" . $self->words;
    return;
}

1;
